-- Gives a claim back. KEYS: claim. ARGV: fence, milliseconds for which nobody is to try again (0: it did not fail).
if string.match(redis.call('GET', KEYS[1]) or '', '^held (%d+) ') ~= ARGV[1] then
    return
end
if ARGV[2] == '0' then
    redis.call('DEL', KEYS[1])
else
    local time = redis.call('TIME')
    local ends = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]
    redis.call('SET', KEYS[1], 'failed ' .. ARGV[1] .. ' ' .. string.format('%.0f', ends) .. ' ' .. ARGV[2], 'PX', ARGV[2])
end
