-- Takes over pending entries of another consumer. Atomic, so that two claimers never get the same entry.
-- KEYS stream
-- ARGV group from to count
local claimed = {}
for _, pending in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', ARGV[4], ARGV[2])) do
  local got = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, pending[1])
  if got[1] then
    claimed[#claimed + 1] = got[1]
  else
    -- Deleted without an acknowledgement: nothing to run. Redis before 7 leaves it pending.
    redis.call('XACK', KEYS[1], ARGV[1], pending[1])
  end
end
return claimed
