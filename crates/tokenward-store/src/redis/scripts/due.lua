-- At most ARGV[2] families that are due at ARGV[1], longest due first, without those that another one than ARGV[3] has
-- claimed. They are its own for the next ARGV[4] milliseconds of this server's clock.
local due_at, most, holder, lease = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local time = now()
local taken, looked_at = {}, 0
while #taken < most do
    local page = call('ZRANGEBYSCORE', families_due, '-inf', due_at, 'LIMIT', looked_at, 500)
    if #page == 0 then
        break
    end
    looked_at = looked_at + #page
    local claims = call('HMGET', families_claims, unpack(page))
    for i, parent in ipairs(page) do
        if #taken < most and not claimed(claims[i], holder, time, lease) then
            taken[#taken + 1] = parent
        end
    end
end
for _, parent in ipairs(taken) do
    call('HSET', families_claims, parent, text(time + lease) .. ' ' .. holder)
end
return with_values(families, taken)
