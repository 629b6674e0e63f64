-- Whether there is no store yet, where ARGV[1] is 'look'; 'begin' empties the place where one is filled, 'finish' puts that
-- one here. KEYS: those of the store, then as many of the one that is filled.
-- Answers 0, and nothing changed, where there is a store. A marker is one; that of the version is not.
local half = #KEYS / 2
if call('HEXISTS', meta, 'generation') == 1 or call('EXISTS', unpack(KEYS, 2, half)) > 0 then
    return 0
end
if ARGV[1] == 'begin' then
    call('UNLINK', unpack(KEYS, half + 1))
elseif ARGV[1] == 'finish' then
    local marks = call('HGETALL', KEYS[half + 1])
    if #marks > 0 then
        call('HSET', meta, unpack(marks))
    end
    call('UNLINK', KEYS[half + 1])
    for i = 2, half do
        if call('EXISTS', KEYS[half + i]) == 1 then
            call('RENAME', KEYS[half + i], KEYS[i])
        end
    end
end
return 1
