-- Takes the family of ARGV[1] out of the schedule where it is still what was read: ARGV[2], empty where there is none.
if (call('HGET', families, ARGV[1]) or '') == ARGV[2] then
    call('ZREM', families_due, ARGV[1])
    call('HDEL', families_claims, ARGV[1])
end
return 1
