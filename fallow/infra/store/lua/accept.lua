-- Enters a call into the stream. Repeating it for an activation that has its entry adds none, but a running attempt
-- still becomes the fence: the call may have been started since it was entered.
-- KEYS record run stream usage
-- ARGV id entry max_entries max_bytes running_attempt controller_id
if redis.call('EXISTS', KEYS[1]) == 1 then
  return {'recorded'}
end
local function fence()
  if tonumber(ARGV[5]) > 0 and redis.call('HSETNX', KEYS[2], 'fence', ARGV[5]) == 1 then
    redis.call('HSET', KEYS[2], 'owner', ARGV[6])
  end
end
local known = redis.call('HGET', KEYS[2], 'entry')
if known then
  fence()
  return {'accepted', known}
end
local entries = redis.call('XLEN', KEYS[3])
local bytes = tonumber(redis.call('HGET', KEYS[4], 'entry_bytes') or '0')
if entries >= tonumber(ARGV[3]) or bytes + #ARGV[2] > tonumber(ARGV[4]) then
  return {'full', entries, bytes}
end
local entry = redis.call('XADD', KEYS[3], '*', 'id', ARGV[1], 'e', ARGV[2])
redis.call('HSET', KEYS[2], 'entry', entry, 'bytes', #ARGV[2])
redis.call('PERSIST', KEYS[2])
fence()
redis.call('HINCRBY', KEYS[4], 'entry_bytes', #ARGV[2])
return {'accepted', entry}
