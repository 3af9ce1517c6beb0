-- Documents of a namespace's actions, last updated first.
-- KEYS actions(namespace)
-- ARGV action_prefix skip limit
local found = {}
for _, name in ipairs(redis.call('ZREVRANGE', KEYS[1], ARGV[2], ARGV[2] + ARGV[3] - 1)) do
  found[#found + 1] = {name, redis.call('HGET', ARGV[1] .. name, 'doc')}
end
return found
