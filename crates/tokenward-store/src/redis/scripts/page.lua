-- At most ARGV[3] revocations or providers, as ARGV[1] says, whose number is over ARGV[2]: all numbers, and all values
-- behind their members.
local order, values = revocations_order, revocations
if ARGV[1] == 'idps' then
    order, values = idps_order, idps
end
local found = call('ZRANGEBYSCORE', order, '(' .. ARGV[2], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
local numbers, members = {}, {}
for i = 1, #found, 2 do
    members[#members + 1] = found[i]
    numbers[#numbers + 1] = found[i + 1]
end
return { numbers, with_values(values, members) }
