-- Deletes a package, trigger or rule; gives its document. A package is deleted only where no action is in it.
-- KEYS entity names(collection, namespace) entities(namespace) change_number actions_of(namespace, name)
-- ARGV expect collection namespace name channel
local doc, revision = unpack(redis.call('HMGET', KEYS[1], 'doc', 'revision'))
if not doc then
  return {'none'}
end
if ARGV[1] ~= '*' and revision ~= ARGV[1] then
  return {'conflict', revision}
end
if ARGV[2] == 'packages' then
  local held = redis.call('ZCARD', KEYS[5])
  if held > 0 then
    return {'not empty', held}
  end
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[4])
redis.call('HDEL', KEYS[3], ARGV[4])
local number = redis.call('INCR', KEYS[4])
redis.call('PUBLISH', ARGV[5], number .. ' ' .. ARGV[2] .. ' ' .. ARGV[3] .. '/' .. ARGV[4])
return {'ok', doc}
