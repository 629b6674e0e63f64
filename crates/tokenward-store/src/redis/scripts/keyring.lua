-- Stores the keyring: ARGV is how ('put' or 'assert'), the version that it takes the place of, its own, its value.
-- An asserted one takes the place of any older one.
local how, expected, version, value = unpack(ARGV)
local stored = call('HGET', keyring, 'version') or '0'
if how == 'put' and stored ~= expected then
    return 0
elseif how == 'assert' and tonumber(stored) >= tonumber(version) then
    return 0
end
local sequence = next_sequence()
call('HSET', keyring, 'version', version, 'value', value)
announce(sequence, 'kind', 'keyring')
return 1
