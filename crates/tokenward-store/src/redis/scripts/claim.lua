-- Asks to fetch for all. KEYS: claim, meta. ARGV: milliseconds that it lasts.
-- The claim is `held fence end lasts`, or `failed fence end lasts` where the fetch failed.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local what, ends, lasts = string.match(redis.call('GET', KEYS[1]) or '', '^(%a+) %d+ (%d+) (%d+)$')
-- What ends later than it can is of a clock that was ahead.
if what and now < tonumber(ends) and tonumber(ends) <= now + tonumber(lasts) then
    return {what, tonumber(ends) - now}
end
-- Higher than all before, and after a loss of the store, too.
local last = tonumber(redis.call('HGET', KEYS[2], 'fence') or '0')
local fence = string.format('%.0f', math.max(last + 1, time[1] * 1000000 + time[2]))
redis.call('HSET', KEYS[2], 'fence', fence)
local entry = 'held ' .. fence .. ' ' .. string.format('%.0f', now + ARGV[1]) .. ' ' .. ARGV[1]
redis.call('SET', KEYS[1], entry, 'PX', ARGV[1])
return {'granted', fence}
