-- Removes the oldest records while there are any beyond age, count or bytes: at most one batch.
-- KEYS retention usage
-- ARGV horizon_ms max_count max_bytes batch tombstone_after_ms tombstone_fence tombstone_ttl_s record_prefix records_prefix records_of_prefix run_prefix
local count = redis.call('ZCARD', KEYS[1])
local bytes = tonumber(redis.call('HGET', KEYS[2], 'record_bytes') or '0')
local removed = 0
local freed = 0
local oldest = redis.call('ZRANGE', KEYS[1], 0, tonumber(ARGV[4]) - 1, 'WITHSCORES')
for i = 1, #oldest, 2 do
  local id = oldest[i]
  local ended = tonumber(oldest[i + 1])
  if ended >= tonumber(ARGV[1]) and count - removed <= tonumber(ARGV[2]) and bytes - freed <= tonumber(ARGV[3]) then
    break
  end
  local size, namespace, name = string.match(redis.call('HGET', ARGV[8] .. id, 'm'), '^(%d+):([^:]*):(.*)$')
  redis.call('DEL', ARGV[8] .. id)
  redis.call('ZREM', KEYS[1], id)
  redis.call('ZREM', ARGV[9] .. namespace, id)
  redis.call('ZREM', ARGV[10] .. namespace .. ':' .. name, id)
  -- A second report of the same end may still come: without this it would find no record and write one.
  if ended >= tonumber(ARGV[5]) then
    redis.call('HSET', ARGV[11] .. id, 'fence', ARGV[6])
    redis.call('EXPIRE', ARGV[11] .. id, ARGV[7])
  end
  removed = removed + 1
  freed = freed + tonumber(size)
end
if removed > 0 then
  redis.call('HINCRBY', KEYS[2], 'records', -removed)
  redis.call('HINCRBY', KEYS[2], 'record_bytes', -freed)
end
return removed
