-- Deletes the revocation of the id ARGV[1]. A tombstone stays, so that nobody who still knows it brings it back.
local rule = call('HGET', revocations_ids, ARGV[1])
local value = rule and call('HGET', revocations, rule)
if not value then
    return 0
end
local sequence = next_sequence()
local ends = call('ZSCORE', revocations_expiry, rule)
-- Of a damaged one nobody can tell what it was.
if field(value, 'v') then
    -- Never before it was asked for, whoever's clock is behind.
    local at = math.max(now(), time_in(value, 'asked_at'))
    local tombstone = '{"v":1,"deleted_at":' .. text(at) .. ',"record":' .. value .. '}'
    call('HSET', revocations_deleted, rule, tombstone)
    schedule(revocations_deleted_expiry, ends or '', rule)
end
remove_revocation(rule, value)
call('HDEL', revocations_ids, ARGV[1])
announce(sequence, 'kind', 'unrevoked', 'record', value)
return 1
