-- Tells every controller of a change that was made already; gives its number.
-- KEYS change_number
-- ARGV channel collection who
local number = redis.call('INCR', KEYS[1])
redis.call('PUBLISH', ARGV[1], number .. ' ' .. ARGV[2] .. ' ' .. ARGV[3])
return number
