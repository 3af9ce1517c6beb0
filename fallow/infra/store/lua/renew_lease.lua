-- KEYS lease leases
-- ARGV controller_id lease ttl_ms
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('SADD', KEYS[2], ARGV[1])
return 1
