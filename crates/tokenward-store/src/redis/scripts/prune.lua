-- Deletes what has ended at ARGV[1], at most ARGV[3] of each kind, and remembers ARGV[2], which is that time in full.
-- Answers how many families and revocations there were.
local function ended(key)
    return call('ZRANGEBYSCORE', key, '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
end

local parents, rules = ended(families_expiry), ended(revocations_expiry)
for _, parent in ipairs(parents) do
    remove_family(parent)
end
for _, rule in ipairs(rules) do
    remove_revocation(rule, call('HGET', revocations, rule) or '')
end
for _, rule in ipairs(ended(revocations_deleted_expiry)) do
    call('HDEL', revocations_deleted, rule)
    call('ZREM', revocations_deleted_expiry, rule)
end
-- Last: it needs memory, which the others give back.
call('HSET', meta, 'pruned_at', ARGV[2])
return #parents + #rules
