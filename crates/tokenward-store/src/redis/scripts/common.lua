local meta, feed, idps, idps_order, idps_removed, audit, audit_kinds, families, families_order, families_due, families_expiry, families_claims, revocations, revocations_ids, revocations_order, revocations_expiry, revocations_deleted, revocations_deleted_expiry, keyring = unpack(KEYS)
-- Precedes every script. Values are opaque here but for what `field` reads.
-- A script that fails midway is not undone. So what may be refused for want of memory comes before any other write,
-- after which the server refuses no more of the same script.
local call = redis.call

-- The same number as in codec.rs.
if (tonumber(call('HGET', meta, 'schema') or '1') or math.huge) > 1 then
    return redis.error_reply('NEWER the store is of a newer version')
end

-- Numbers beyond it are not whole.
local MOST = 9007199254740992

local function text(number)
    return string.format('%.0f', number)
end

local function now()
    local time = call('TIME')
    return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- A member of a stored value; nil where the value is damaged.
local function field(value, name)
    local ok, read = pcall(cjson.decode, value)
    if ok and type(read) == 'table' then
        return read[name]
    end
end

-- A time in a stored value; the beginning of time where it is damaged.
local function time_in(value, name)
    local time = field(value, name)
    return type(time) == 'number' and math.min(time, MOST) or -MOST
end

local function next_sequence()
    call('HSETNX', meta, 'schema', '1')
    return call('HINCRBY', meta, 'sequence', 1)
end

-- Tells those who follow. Each entry names the one before it, so that whoever misses some notices.
local function announce(sequence, ...)
    local id = text(sequence) .. '-0'
    local former = call('HGET', meta, 'announced') or '0'
    local added = redis.pcall('XADD', feed, 'MAXLEN', '~', 100000, id, 'former', former, ...)
    if type(added) == 'table' and added.err then
        -- The counter was lost and the feed was not: it begins anew.
        call('DEL', feed)
        call('XADD', feed, id, 'former', former, ...)
    end
    call('HSET', meta, 'announced', text(sequence))
end

local function remove_family(parent)
    call('HDEL', families, parent)
    call('ZREM', families_order, parent)
    call('ZREM', families_due, parent)
    call('ZREM', families_expiry, parent)
    call('HDEL', families_claims, parent)
end

local function remove_revocation(rule, value)
    local id = field(value, 'id')
    if type(id) == 'string' and call('HGET', revocations_ids, id) == rule then
        call('HDEL', revocations_ids, id)
    end
    call('HDEL', revocations, rule)
    call('ZREM', revocations_order, rule)
    call('ZREM', revocations_expiry, rule)
end

-- When the claim of another than `holder` ends; nil where none stands. One that lasts longer than any may was made when
-- the clock was ahead.
local function claimed(claim, holder, time, lease)
    local ends, by = string.match(claim or '', '^(%d+) (.*)$')
    ends = tonumber(ends)
    if ends and by ~= holder and ends > time and ends <= time + lease then
        return ends
    end
end

-- `time` is empty where there is none.
local function schedule(key, time, member)
    if time == '' then
        call('ZREM', key, member)
    else
        call('ZADD', key, time, member)
    end
end

-- The values of these members, each behind its member: as many at once as the stack holds.
local function with_values(hash, members)
    local found = {}
    for first = 1, #members, 1000 do
        local last = math.min(first + 999, #members)
        local values = call('HMGET', hash, unpack(members, first, last))
        for i = first, last do
            found[#found + 1] = members[i]
            found[#found + 1] = values[i - first + 1]
        end
    end
    return found
end
