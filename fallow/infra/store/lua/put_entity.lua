-- Puts a package, trigger or rule if the standing revision is the expected one. Repeating a put of one revision succeeds.
-- KEYS entity names(collection, namespace) entities(namespace) change_number
-- ARGV expect revision doc collection namespace name updated_ms channel
local collection = redis.call('HGET', KEYS[3], ARGV[6])
if collection and collection ~= ARGV[4] then
  return {'collection', collection}
end
local revision = redis.call('HGET', KEYS[1], 'revision')
if revision == ARGV[2] then
  return {'ok'}
end
if ARGV[1] ~= '*' and (revision or '') ~= ARGV[1] then
  return {'conflict', revision or ''}
end
redis.call('HSET', KEYS[1], 'doc', ARGV[3], 'revision', ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[7], ARGV[6])
redis.call('HSET', KEYS[3], ARGV[6], ARGV[4])
local number = redis.call('INCR', KEYS[4])
redis.call('PUBLISH', ARGV[8], number .. ' ' .. ARGV[4] .. ' ' .. ARGV[5] .. '/' .. ARGV[6])
return {'ok'}
