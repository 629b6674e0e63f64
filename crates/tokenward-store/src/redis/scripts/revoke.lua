-- Stores revocations where each is still as it was read: ARGV is how ('revoke' or 'assert'), then of each: its rule,
-- id, what is stored now, what is to be, when it ends, when it was asked for, 'p' and the parent whose family goes,
-- whether it says more than before.
-- Answers for each: 'stored' and its sequence; 'other', what is stored and its sequence; 'deleted'; 'taken'; 'late' and when
-- it was deleted, which what is to be must be dated after: those who know the deletion would take it for what was deleted.
local how = ARGV[1]
local answers = {}
local last

local function place(rule)
    return call('ZSCORE', revocations_order, rule) or '0'
end

for i = 2, #ARGV, 8 do
    local rule, id, expected, value, ends, asked, parent, grew = unpack(ARGV, i, i + 7)
    local stored = call('HGET', revocations, rule) or ''
    local tombstone = call('HGET', revocations_deleted, rule)
    local owner = call('HGET', revocations_ids, id) or rule
    if stored ~= expected then
        answers[#answers + 1] = { 'other', stored, place(rule) }
    elseif tombstone and time_in(tombstone, 'deleted_at') >= tonumber(asked) then
        answers[#answers + 1] = how == 'assert' and { 'deleted' } or { 'late', text(time_in(tombstone, 'deleted_at')) }
    elseif owner ~= rule then
        answers[#answers + 1] = { 'taken' }
    else
        if grew == '1' then
            last = next_sequence()
            call('ZADD', revocations_order, last, rule)
        end
        if value ~= stored then
            call('HSET', revocations, rule, value)
            call('HSET', revocations_ids, id, rule)
            schedule(revocations_expiry, ends, rule)
        end
        if tombstone then
            call('HDEL', revocations_deleted, rule)
            call('ZREM', revocations_deleted_expiry, rule)
        end
        if parent ~= '' then
            remove_family(string.sub(parent, 2))
        end
        answers[#answers + 1] = { 'stored', grew == '1' and text(last) or place(rule) }
    end
end
if last then
    announce(last, 'kind', 'revoked')
end
return answers
