-- Takes or keeps a role that only one may have.
-- KEYS role
-- ARGV owner ttl_ms
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
