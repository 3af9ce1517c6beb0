-- The number of a change, then the other controllers with a lease that have not noted that they saw it.
-- KEYS leases seen change_number
-- ARGV lease_prefix controller_id number ('' = of the last change)
local number = tonumber(ARGV[3]) or tonumber(redis.call('GET', KEYS[3]) or '0')
local behind = {number}
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if id ~= ARGV[2] and redis.call('EXISTS', ARGV[1] .. id) == 1 then
    if tonumber(redis.call('HGET', KEYS[2], id) or '-1') < number then
      behind[#behind + 1] = id
    end
  end
end
return behind
