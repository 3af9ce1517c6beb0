-- Writes final records, each unless one exists or its attempt is below the fence; settles their stream entries.
-- KEYS stream usage retention
-- ARGV overhead group fence_ttl_s record_prefix run_prefix records_prefix records_of_prefix, then four for each record:
--      "id attempt start_ms end_ms namespace:name" doc result logs
local written, bytes, settled_bytes = 0, 0, 0

local function write(head, doc, result, logs)
  local id, attempt, start_ms, end_ms, owner = string.match(head, '^(%S+) (%S+) (%S+) (%S+) (.*)$')
  local record, run = ARGV[4] .. id, ARGV[5] .. id
  if redis.call('EXISTS', record) == 1 then
    return 'exists'
  end
  local fence, entry, entry_bytes = unpack(redis.call('HMGET', run, 'fence', 'entry', 'bytes'))
  fence = tonumber(fence or '0')
  if tonumber(attempt) < fence then
    return 'fenced'
  end
  local size = #doc + #result + #logs + tonumber(ARGV[1])
  local meta = size .. ':' .. owner
  if logs == '' then
    redis.call('HSET', record, 'm', meta, 'd', doc, 'r', result)
  else
    redis.call('HSET', record, 'm', meta, 'd', doc, 'r', result, 'l', logs)
  end
  redis.call('ZADD', KEYS[3], end_ms, id)
  redis.call('ZADD', ARGV[6] .. string.match(owner, '^[^:]*'), start_ms, id)
  redis.call('ZADD', ARGV[7] .. owner, start_ms, id)
  written = written + 1
  bytes = bytes + size
  if entry then
    redis.call('XACK', KEYS[1], ARGV[2], entry)
    redis.call('XDEL', KEYS[1], entry)
    settled_bytes = settled_bytes + tonumber(entry_bytes)
  end
  if fence > 1 then
    -- An older attempt may still report: its fence outlives the record, should that be trimmed early.
    redis.call('HDEL', run, 'entry', 'bytes')
    redis.call('EXPIRE', run, ARGV[3])
  elseif fence == 1 or entry then
    redis.call('DEL', run)
  end
  return 'written'
end

local verdicts = {}
for i = 8, #ARGV, 4 do
  verdicts[#verdicts + 1] = write(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])
end
if written > 0 then
  redis.call('HINCRBY', KEYS[2], 'records', written)
  redis.call('HINCRBY', KEYS[2], 'record_bytes', bytes)
end
if settled_bytes > 0 then
  redis.call('HINCRBY', KEYS[2], 'entry_bytes', -settled_bytes)
end
return verdicts
