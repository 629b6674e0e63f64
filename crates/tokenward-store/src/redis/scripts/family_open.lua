-- Opens the family of ARGV[1], unless there is one: its value, when it ends, when a child is due. With the rule that a
-- revocation of its parent has, unless that is or was revoked: a store that has lost a family may know it still.
-- Answers whether there is one then.
local parent, value, ends, due, rule = unpack(ARGV)
if rule and (call('HEXISTS', revocations, rule) == 1 or call('HEXISTS', revocations_deleted, rule) == 1) then
    return 0
end
if call('HEXISTS', families, parent) == 1 then
    return 1
end
call('HSETNX', meta, 'schema', '1')
call('HSET', families, parent, value)
call('ZADD', families_order, 0, parent)
call('ZADD', families_expiry, ends, parent)
schedule(families_due, due, parent)
return 1
