-- Documents of an index, newest first.
-- KEYS index
-- ARGV record_prefix upto since skip limit field...
local found = {}
for _, id in ipairs(redis.call('ZREVRANGEBYSCORE', KEYS[1], ARGV[2], ARGV[3], 'LIMIT', ARGV[4], ARGV[5])) do
  found[#found + 1] = {id, redis.call('HMGET', ARGV[1] .. id, unpack(ARGV, 6))}
end
return found
