-- Marks the store as ARGV[2] where it is still marked as ARGV[1]; empty: not at all.
if (call('HGET', meta, 'generation') or '') ~= ARGV[1] then
    return 0
end
call('HSETNX', meta, 'schema', '1')
call('HSET', meta, 'generation', ARGV[2])
return 1
