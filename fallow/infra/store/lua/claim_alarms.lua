-- Takes alarms that are due, earliest first. They are due again at `until`, should whoever took them not write them.
-- KEYS alarms alarms_due
-- ARGV now_unix_ms until_unix_ms count
local claimed = {}
for _, who in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])) do
  local doc = redis.call('HGET', KEYS[1], who)
  if doc then
    redis.call('ZADD', KEYS[2], ARGV[2], who)
    claimed[#claimed + 1] = doc
  else
    redis.call('ZREM', KEYS[2], who)
  end
end
return claimed
