-- Opens the family of ARGV[1], unless there is one: its value, when it ends, when a child is due.
local parent, value, ends, due = unpack(ARGV)
if call('HEXISTS', families, parent) == 1 then
    return 0
end
call('HSETNX', meta, 'schema', '1')
call('HSET', families, parent, value)
call('ZADD', families_order, 0, parent)
call('ZADD', families_expiry, ends, parent)
schedule(families_due, due, parent)
return 1
