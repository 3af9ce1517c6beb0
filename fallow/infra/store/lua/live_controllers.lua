-- The leases that stand; forgets controllers whose lease lapsed.
-- KEYS leases seen
-- ARGV lease_prefix
local live = {}
local ids = redis.call('SMEMBERS', KEYS[1])
table.sort(ids)
for _, id in ipairs(ids) do
  local lease = redis.call('GET', ARGV[1] .. id)
  if lease then
    live[#live + 1] = lease
  else
    redis.call('SREM', KEYS[1], id)
    redis.call('HDEL', KEYS[2], id)
  end
end
return live
