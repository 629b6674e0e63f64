-- What was announced after ARGV[1], whose successor is ARGV[2], at most ARGV[3] of it: the time, the generation, the
-- sequence, whether something of it is gone, and the entries.
local time = call('TIME')
local marks = call('HMGET', meta, 'generation', 'sequence', 'announced')
local oldest = call('XRANGE', feed, '-', '+', 'COUNT', 1)[1]
-- Up to which all is gone: the one before the oldest that there is.
local gone = tonumber(oldest and oldest[2][2] or marks[3] or '0')
return {
    time[1],
    time[2],
    marks[1] or '',
    marks[2] or '0',
    gone > tonumber(ARGV[1]) and 1 or 0,
    call('XRANGE', feed, ARGV[2], '+', 'COUNT', ARGV[3]),
}
