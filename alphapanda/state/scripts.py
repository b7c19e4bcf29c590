"""The steps that must not be interrupted, as Lua. Each touches the one key it is given; numbers stay below 2**53.

A script that is refused (memory full, disk full, wrong type) has changed nothing: whatever can fail comes first.
"""

from __future__ import annotations

# amount, ttl in ms or '' → the new value. A counter's life starts when it is made and is not prolonged.
INCREMENT = """
redis.call('INCRBY', KEYS[1], ARGV[1])
if ARGV[2] ~= '' and redis.call('PTTL', KEYS[1]) == -1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return redis.call('GET', KEYS[1])
"""

# amount, limit, ttl in ms or '' → whether it fitted, and the value after that
INCREMENT_WITHIN = """
local value = redis.call('GET', KEYS[1]) or '0'
if tonumber(value) > tonumber(ARGV[2]) - tonumber(ARGV[1]) then return {0, value} end
redis.call('INCRBY', KEYS[1], ARGV[1])
if ARGV[3] ~= '' and redis.call('PTTL', KEYS[1]) == -1 then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return {1, redis.call('GET', KEYS[1])}
"""

# amount → the new value, never below zero; what is not there is not made
DECREASE = """
local value = redis.call('GET', KEYS[1])
if not value then return '0' end
local less = math.min(tonumber(value), tonumber(ARGV[1]))
if less > 0 then redis.call('INCRBY', KEYS[1], string.format('%.0f', -less)) end
return redis.call('GET', KEYS[1])
"""

# '1' and the expected bytes, or '0' and anything: the key must not exist; new bytes; ttl in ms or '' → 1 if it was set
COMPARE_AND_SET = """
local value = redis.call('GET', KEYS[1])
if ARGV[1] == '0' and value then return 0 end
if ARGV[1] == '1' and value ~= ARGV[2] then return 0 end
if ARGV[4] == '' then redis.call('SET', KEYS[1], ARGV[3]) else redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4]) end
return 1
"""

# expected version, 0: must not exist, '': any; document; ttl in ms, '': for good → whether, version, document as it is.
# A new document's version starts at the server's microseconds, so that none is used twice under one name.
PUT_DOCUMENT = """
local found = redis.call('HGET', KEYS[1], 'version')
if ARGV[1] ~= '' and tonumber(found or '0') ~= tonumber(ARGV[1]) then
  return {0, found or '0', redis.call('HGET', KEYS[1], 'document')}
end
local version
if found then version = tonumber(found) + 1
else local now = redis.call('TIME'); version = tonumber(now[1]) * 1000000 + tonumber(now[2]) end
version = string.format('%.0f', version)
redis.call('HSET', KEYS[1], 'version', version, 'document', ARGV[2])
if ARGV[3] == '' then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return {1, version, ARGV[2]}
"""

# ttl in ms or '', then field, value, ... → nothing. The item has these fields and no others.
PUT_ITEM = """
local fields, kept = {}, {}
for i = 2, #ARGV do fields[i - 1] = ARGV[i]; if i % 2 == 0 then kept[ARGV[i]] = true end end
redis.call('HSET', KEYS[1], unpack(fields))
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if not kept[field] then redis.call('HDEL', KEYS[1], field) end
end
if ARGV[1] == '' then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
"""

# field, amount, ... → the new values. All are added or, if one is no number or grows to 2**53, none.
ADD_TO_ITEM = """
for i = 1, #ARGV, 2 do
  local value = redis.call('HGET', KEYS[1], ARGV[i]) or '0'
  local sum = tonumber(value) and tonumber(value) + tonumber(ARGV[i + 1])
  if not sum or math.abs(sum) >= 9007199254740992 then
    return redis.error_reply('ERR field ' .. ARGV[i] .. ' is not a number that can take ' .. ARGV[i + 1])
  end
end
local sums = {}
for i = 1, #ARGV, 2 do
  local value = redis.call('HGET', KEYS[1], ARGV[i]) or '0'
  local whole = string.match(value, '^%-?%d+$') and string.match(ARGV[i + 1], '^%-?%d+$')
  redis.call(whole and 'HINCRBY' or 'HINCRBYFLOAT', KEYS[1], ARGV[i], ARGV[i + 1])
  sums[#sums + 1] = redis.call('HGET', KEYS[1], ARGV[i])
end
return sums
"""

# The lease of a name: KEYS 1 the holder (a hash that expires), 2 the last epoch, which stays.
# owner, host, pid, since, ttl in ms, an epoch to go beyond, the epoch of a dead holder to replace or '' → 1 and the
# new epoch, or 0 and the holder's
ACQUIRE = """
local held = redis.call('HGET', KEYS[1], 'epoch')
if held and held ~= ARGV[7] then return {0, held} end
local epoch = math.max(tonumber(redis.call('GET', KEYS[2]) or '0'), tonumber(ARGV[6]), tonumber(held or '0')) + 1
epoch = string.format('%.0f', epoch)
redis.call('SET', KEYS[2], epoch)
redis.call('HSET', KEYS[1], 'epoch', epoch, 'owner', ARGV[1], 'host', ARGV[2], 'pid', ARGV[3], 'since', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return {1, epoch}
"""

# epoch, ttl in ms → 1, or 0 if it is not ours any more
RENEW = """
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

# epoch → 1, or 0 if it is not ours any more
RELEASE = """
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
