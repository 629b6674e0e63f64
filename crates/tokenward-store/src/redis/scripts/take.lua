-- Takes one from a bucket. KEYS: bucket. ARGV: size, milliseconds until one comes back, caller.
-- What is out is a member `caller:back`, scored by when it is back.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local size, refill = tonumber(ARGV[1]), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
-- What is back later than all can be is of a clock that was ahead.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now + size * refill), '+inf')
local out = redis.call('ZRANGE', KEYS[1], 0, -1)
local own, last = 0, now
for _, member in ipairs(out) do
    local caller, back = string.match(member, '^(%d+):(%d+)$')
    if caller == ARGV[3] then
        own = own + 1
    end
    last = math.max(last, tonumber(back))
end
if #out >= size or own >= math.max(math.floor(size / 2), 1) then
    return 0
end
local back = string.format('%.0f', last + refill)
redis.call('ZADD', KEYS[1], back, ARGV[3] .. ':' .. back)
redis.call('PEXPIREAT', KEYS[1], back)
return 1
