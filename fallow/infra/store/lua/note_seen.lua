-- Notes the last change whose copy a controller dropped; nothing of a controller without a lease, which nobody waits for.
-- KEYS lease seen
-- ARGV controller_id number
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
end
return 1
