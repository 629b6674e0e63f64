-- Stores a provider: ARGV is how ('put' or 'assert'), its name, its value, when it was changed, how many there may be.
-- An asserted one neither takes the place of a later change nor undoes a later removal.
local how, name, value, changed, most = unpack(ARGV)
local former = call('HGET', idps, name)
if how == 'assert' then
    local removed = tonumber(call('ZSCORE', idps_removed, name) or '-inf')
    if removed >= tonumber(changed) or (former and time_in(former, 'changed_at') >= tonumber(changed)) then
        return 'known'
    end
elseif not former and call('HLEN', idps) >= tonumber(most) then
    return 'full'
end
local sequence = next_sequence()
call('HSET', idps, name, value)
call('ZREM', idps_removed, name)
if not former then
    call('ZADD', idps_order, sequence, name)
end
announce(sequence, 'kind', 'idps')
return former and 'replaced' or 'created'
