-- Puts tombstones where none is later: ARGV is of each its rule, the tombstone, the record in it, when it was deleted,
-- when it ends. A record that was asked for later stays, and so does one that is damaged.
-- Answers how many there are now that were not.
local buried = 0
for i = 1, #ARGV, 5 do
    local rule, tombstone, record, at, ends = unpack(ARGV, i, i + 4)
    local former = call('HGET', revocations_deleted, rule)
    local value = call('HGET', revocations, rule)
    local asked = value and field(value, 'asked_at')
    local stays = value and not (asked and asked <= tonumber(at))
    if not stays and not (former and time_in(former, 'deleted_at') >= tonumber(at)) then
        local sequence = next_sequence()
        call('HSET', revocations_deleted, rule, tombstone)
        schedule(revocations_deleted_expiry, ends, rule)
        if value then
            remove_revocation(rule, value)
        end
        announce(sequence, 'kind', 'unrevoked', 'record', record)
        buried = buried + 1
    end
end
return buried
