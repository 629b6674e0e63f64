-- When the next family is due for ARGV[1]: one that another has claimed, which lasts ARGV[2] milliseconds at most, not
-- before that claim has run out.
local holder, lease = ARGV[1], tonumber(ARGV[2])
local time = now()
local soonest, looked_at = nil, 0
while true do
    local page = call('ZRANGE', families_due, looked_at, looked_at + 499, 'WITHSCORES')
    if #page == 0 then
        return soonest and text(soonest)
    end
    looked_at = looked_at + #page / 2
    local parents = {}
    for i = 1, #page, 2 do
        parents[#parents + 1] = page[i]
    end
    local claims = call('HMGET', families_claims, unpack(parents))
    for i = 1, #parents do
        local due = tonumber(page[2 * i])
        if soonest and soonest <= due then
            return text(soonest)
        end
        local ends = claimed(claims[i], holder, time, lease)
        if ends then
            due = math.max(due, ends)
            soonest = math.min(soonest or due, due)
        else
            return text(due)
        end
    end
end
