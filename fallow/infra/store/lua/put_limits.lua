-- Sets the limits of a namespace in place of those that stand, and tells of it.
-- KEYS limits(namespace) change_number
-- ARGV namespace channel, then a name and a number for each limit that is set
redis.call('DEL', KEYS[1])
for i = 3, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
redis.call('PUBLISH', ARGV[2], redis.call('INCR', KEYS[2]) .. ' limits ' .. ARGV[1] .. '/')
return 1
