-- The revocation of the id ARGV[1], behind its rule.
local rule = call('HGET', revocations_ids, ARGV[1])
return rule and { rule, call('HGET', revocations, rule) }
