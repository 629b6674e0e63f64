-- Stores providers: ARGV is how ('put' or 'assert'), how many there may be, then of each, in their order: its name, its
-- value, when it was changed. An asserted one neither takes the place of a later change nor undoes a later removal.
-- Answers what became of each.
local how, most = ARGV[1], tonumber(ARGV[2])
local answers = {}
local last
for i = 3, #ARGV, 3 do
    local name, value, changed = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
    local former = call('HGET', idps, name)
    local became = former and 'replaced' or 'created'
    if how == 'assert' then
        local removed = tonumber(call('ZSCORE', idps_removed, name) or '-inf')
        if removed >= changed or (former and time_in(former, 'changed_at') >= changed) then
            became = 'known'
        end
    elseif not former and call('HLEN', idps) >= most then
        became = 'full'
    end
    if became == 'created' or became == 'replaced' then
        last = next_sequence()
        call('HSET', idps, name, value)
        call('ZREM', idps_removed, name)
        if not former then
            call('ZADD', idps_order, last, name)
        end
    end
    answers[#answers + 1] = became
end
if last then
    announce(last, 'kind', 'idps')
end
return answers
