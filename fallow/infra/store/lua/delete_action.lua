-- Deletes an action and returns its document, or nothing.
-- KEYS action actions(namespace) entities(namespace) change_number, and actions_of(namespace, package) if it is in one
-- ARGV namespace name code_prefix code_users_prefix code_ttl_s channel
local doc, digest = unpack(redis.call('HMGET', KEYS[1], 'doc', 'digest'))
if not doc then
  return false
end
local who = ARGV[1] .. '/' .. ARGV[2]
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('HDEL', KEYS[3], ARGV[2])
if KEYS[5] then
  redis.call('ZREM', KEYS[5], ARGV[2])
end
if digest ~= '' then
  redis.call('SREM', ARGV[4] .. digest, who)
  if redis.call('SCARD', ARGV[4] .. digest) == 0 then
    redis.call('EXPIRE', ARGV[3] .. digest, ARGV[5])
  end
end
redis.call('PUBLISH', ARGV[6], redis.call('INCR', KEYS[4]) .. ' actions ' .. who)
return doc
