-- Removes the provider ARGV[1], and remembers when. With ARGV[2], a time, somebody else's removal is asserted: a later
-- change stays.
local name, at = ARGV[1], tonumber(ARGV[2])
local former = call('HGET', idps, name)
local changed = former and time_in(former, 'changed_at')
if at then
    local removed = tonumber(call('ZSCORE', idps_removed, name) or '-inf')
    if removed >= at or (former and changed > at) then
        return 0
    end
elseif not former then
    return 0
else
    at = math.max(now(), changed)
end
local sequence = next_sequence()
call('ZADD', idps_removed, at, name)
-- The newest of them are enough for a replica that was away.
call('ZREMRANGEBYRANK', idps_removed, 0, -100001)
call('HDEL', idps, name)
call('ZREM', idps_order, name)
announce(sequence, 'kind', 'idps')
return 1
