-- At most ARGV[2] families whose parents' ids are over ARGV[1], in the order of the ids.
return with_values(families, call('ZRANGEBYLEX', families_order, '(' .. ARGV[1], '+', 'LIMIT', 0, ARGV[2]))
