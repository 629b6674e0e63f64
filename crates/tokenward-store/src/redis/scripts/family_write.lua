-- Changes the family of ARGV[1] where it is still as it was read: what is stored now, what is to be, when a child is
-- due, the sequence of the child that is new in it (empty: none is).
-- Answers 'stored'; 'other' and what is stored; 'gone'.
local parent, expected, value, due, child = unpack(ARGV)
local stored = call('HGET', families, parent)
if not stored then
    return { 'gone' }
elseif stored ~= expected then
    return { 'other', stored }
end
call('HSET', families, parent, value)
schedule(families_due, due, parent)
call('HDEL', families_claims, parent)
if child ~= '' then
    announce(next_sequence(), 'kind', 'child', 'parent', parent, 'sequence', child)
end
return { 'stored' }
