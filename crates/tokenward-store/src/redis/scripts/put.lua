-- Stores a snapshot and lists it. KEYS: snapshot, list. ARGV: value, member, milliseconds to keep it (0: for ever), when
-- it was fetched, 1 to store it whatever is there. Answers with what is there and newer, if it stores nothing.
local there = ARGV[5] == '0' and redis.call('GET', KEYS[1])
if there then
    local time = redis.call('TIME')
    -- What nobody can have fetched yet is not newer. Clocks may be ten seconds apart.
    local latest = time[1] * 1000 + math.floor(time[2] / 1000) + 10000
    local known, old = pcall(cjson.decode, there)
    local new = cjson.decode(ARGV[1])
    if known and type(old) == 'table' and old.url == new.url and old.config_hash == new.config_hash
        and type(old.fetched_at) == 'number' and old.fetched_at > tonumber(ARGV[4]) and old.fetched_at <= latest then
        return there
    end
end
if ARGV[3] == '0' then
    redis.call('SET', KEYS[1], ARGV[1])
else
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
end
redis.call('SADD', KEYS[2], ARGV[2])
