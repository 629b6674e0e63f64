-- Changes the family of ARGV[1] where it is still as it was read: what is stored now, what is to be, when a child is
-- due. With a child that is new in it: its sequence, when the parent was issued, and the rules of all revocations that can
-- refuse the parent.
-- Answers 'stored'; 'other' and what is stored; 'gone'; 'revoked', the rule and the revocation.
local parent, expected, value, due, child, issued = unpack(ARGV, 1, 6)
local stored = call('HGET', families, parent)
if not stored then
    return { 'gone' }
elseif stored ~= expected then
    return { 'other', stored }
end
local found = child and call('HMGET', revocations, unpack(ARGV, 7)) or {}
for i, revoked in ipairs(found) do
    local time = revoked and field(revoked, 'time')
    -- One without a time refuses whenever it was issued, and so does one that is damaged.
    if revoked and not (type(time) == 'number' and time < tonumber(issued)) then
        return { 'revoked', ARGV[6 + i], revoked }
    end
end
call('HSET', families, parent, value)
schedule(families_due, due, parent)
call('HDEL', families_claims, parent)
if child then
    announce(next_sequence(), 'kind', 'child', 'parent', parent, 'sequence', child)
end
return { 'stored' }
