-- Raises an activation's fence by compare-and-set. Repeating one's own raise succeeds.
-- KEYS record run
-- ARGV expect attempt controller_id fence_ttl_s
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 'recorded'
end
local fence, owner, entry = unpack(redis.call('HMGET', KEYS[2], 'fence', 'owner', 'entry'))
local expect = tonumber(ARGV[1])
if fence then
  if tonumber(fence) == tonumber(ARGV[2]) and owner == ARGV[3] then
    return 'raised'
  end
  if tonumber(fence) ~= expect then
    return 'superseded'
  end
elseif expect > 1 then
  -- Absent stands for 0 (never started) and for 1 (the one attempt that starts without a fence), for nothing higher.
  return 'superseded'
end
redis.call('HSET', KEYS[2], 'fence', ARGV[2], 'owner', ARGV[3])
if not entry then
  redis.call('EXPIRE', KEYS[2], ARGV[4])
end
return 'raised'
