-- Puts an action if the standing revision is the expected one. Repeating a put of the same new revision succeeds.
-- KEYS action actions(namespace) entities(namespace) code(digest) code_users(digest) change_number
--      package actions_of(namespace, package), the last two of an action in a package only
-- ARGV expect revision doc digest namespace name updated_ms has_code code code_prefix code_users_prefix code_ttl_s channel
local collection = redis.call('HGET', KEYS[3], ARGV[6])
if collection and collection ~= 'actions' then
  return {'collection', collection}
end
local revision, old_digest = unpack(redis.call('HMGET', KEYS[1], 'revision', 'digest'))
if revision == ARGV[2] then
  return {'ok'}
end
if ARGV[1] ~= '*' and (revision or '') ~= ARGV[1] then
  return {'conflict', revision or ''}
end
if KEYS[7] and redis.call('EXISTS', KEYS[7]) == 0 then
  return {'no package'}
end
local who = ARGV[5] .. '/' .. ARGV[6]
if ARGV[4] ~= '' then
  if ARGV[8] == '1' then
    redis.call('SET', KEYS[4], ARGV[9])
  elseif redis.call('EXISTS', KEYS[4]) == 0 then
    return {'no code'}
  else
    redis.call('PERSIST', KEYS[4])
  end
  redis.call('SADD', KEYS[5], who)
end
redis.call('HSET', KEYS[1], 'doc', ARGV[3], 'revision', ARGV[2], 'digest', ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[7], ARGV[6])
redis.call('HSET', KEYS[3], ARGV[6], 'actions')
if KEYS[8] then
  redis.call('ZADD', KEYS[8], ARGV[7], ARGV[6])
end
if old_digest and old_digest ~= '' and old_digest ~= ARGV[4] then
  redis.call('SREM', ARGV[11] .. old_digest, who)
  if redis.call('SCARD', ARGV[11] .. old_digest) == 0 then
    redis.call('EXPIRE', ARGV[10] .. old_digest, ARGV[12])
  end
end
redis.call('PUBLISH', ARGV[13], redis.call('INCR', KEYS[6]) .. ' actions ' .. who)
return {'ok'}
