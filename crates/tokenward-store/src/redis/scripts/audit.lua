-- Appends to the audit log, which keeps the newest ARGV[1] of each kind: after it the kind and the record of each.
local most = tonumber(ARGV[1])
local number = tonumber(call('ZREVRANGE', audit, 0, 0, 'WITHSCORES')[2] or '0')
local kinds = {}
for i = 2, #ARGV, 2 do
    number = number + 1
    kinds[ARGV[i]] = true
    -- With its number, so that no two are the same; in an index of all kinds, of as many digits each.
    call('ZADD', audit, number, text(number) .. ' ' .. ARGV[i + 1])
    call('ZADD', audit_kinds, 0, ARGV[i] .. string.format('%016.0f', number))
end
for kind in pairs(kinds) do
    local first, last = '[' .. kind .. string.rep('0', 16), '[' .. kind .. string.rep('9', 16)
    local over = call('ZLEXCOUNT', audit_kinds, first, last) - most
    if over > 0 then
        for _, oldest in ipairs(call('ZRANGEBYLEX', audit_kinds, first, last, 'LIMIT', 0, over)) do
            local place = string.sub(oldest, -16)
            call('ZREM', audit_kinds, oldest)
            call('ZREMRANGEBYSCORE', audit, place, place)
        end
    end
end
return number
