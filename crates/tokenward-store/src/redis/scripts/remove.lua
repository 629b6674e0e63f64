-- Forgets a snapshot. KEYS: snapshot, list. ARGV: member, 1 to forget it only where it has ended by itself.
if ARGV[2] == '1' and redis.call('EXISTS', KEYS[1]) == 1 then
    return
end
redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[1])
