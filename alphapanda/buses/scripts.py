"""Scripts a Redis bus runs on its server: what must look before it acts, so that nothing comes between."""


def _script(text: str) -> str:
    return (
        """
local function pairs_of(row)
  local out = {}
  for i = 1, #row, 2 do out[row[i]] = row[i + 1] end
  return out
end"""
        + text
    )


# Where each topic ends. XINFO STREAM asked from here would send the bodies of the first and the last message along.
TAILS = _script("""
local out = {}
for i, topic in ipairs(KEYS) do
  out[i] = {'0-0', 0, 0, {}}
  if redis.call('EXISTS', topic) == 1 then
    local info, lags = pairs_of(redis.call('XINFO', 'STREAM', topic)), {}
    for _, row in ipairs(redis.call('XINFO', 'GROUPS', topic)) do
      local group = pairs_of(row)
      local new = group.lag or #redis.call('XRANGE', topic, '(' .. group['last-delivered-id'], '+')
      lags[#lags + 1] = {group.name, group.pending + new}
    end
    out[i] = {info['last-generated-id'], info['entries-added'] or -1, info.length, lags}
  end
end
return out
""")
# Forget what is beyond the bound and older than what every group needs. MINID with ~ and LIMIT removes whole nodes,
# never past either end and without looking at single messages; what is left to remove is a part of one node.
TRIM = _script("""
local topic = KEYS[1]
local excess = redis.call('XLEN', topic) - ARGV[1]
if excess <= 0 then return 0 end
local function place(id)
  local whole, part = string.match(id, '(%d+)-(%d+)')
  return tonumber(whole), tonumber(part)
end
local needed, whole, part = nil, nil, nil
for _, row in ipairs(redis.call('XINFO', 'GROUPS', topic)) do
  local group, pending = pairs_of(row), redis.call('XPENDING', topic, pairs_of(row).name)
  local a, b = place(pending[2] or group['last-delivered-id'])
  if not pending[2] then b = b + 1 end
  if not needed or a < whole or (a == whole and b < part) then
    needed, whole, part = string.format('%.0f-%.0f', a, b), a, b
  end
end
if not needed then return redis.call('XTRIM', topic, 'MAXLEN', ARGV[1]) end
local gone = redis.call('XTRIM', topic, 'MINID', '~', needed, 'LIMIT', excess)
local rest = gone < excess and redis.call('XRANGE', topic, '-', '(' .. needed, 'COUNT', excess - gone) or {}
if #rest == 0 then return gone end
whole, part = place(rest[#rest][1])
return gone + redis.call('XTRIM', topic, 'MINID', string.format('%.0f-%.0f', whole, part + 1))
""")
# What the group handed out before: ours but what we hold, then that of consumers not heard of for so long. XCLAIM of an
# id that cannot exist only says that we live. A message that is gone stays pending until somebody acknowledges it.
AGAIN = _script("""
local group, me, idle, count = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local held, found = {}, {}
for i = 5, #ARGV do held[ARGV[i]] = true end
for _, topic in ipairs(KEYS) do
  local made = redis.pcall('XGROUP', 'CREATE', topic, group, '0', 'MKSTREAM')
  if redis.pcall('XCLAIM', topic, group, me, 0, '0-0', 'JUSTID').err then return made end
  local owners, left = {me}, count
  for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', topic, group)) do
    local owner = pairs_of(row)
    if owner.name ~= me and owner.pending > 0 and owner.idle >= idle then owners[#owners + 1] = owner.name end
  end
  for _, owner in ipairs(owners) do
    for _, waiting in ipairs(redis.call('XPENDING', topic, group, '-', '+', left + #ARGV, owner)) do
      local id, times = waiting[1], waiting[4] + 1
      if left > 0 and not held[topic .. ' ' .. id] then
        local entry = redis.call('XRANGE', topic, id, id)[1]
        if entry then redis.call('XCLAIM', topic, group, me, 0, id, 'RETRYCOUNT', times, 'JUSTID') end
        found[#found + 1] = {topic, id, entry and entry[2][2] or false, times}
        left = left - 1
      end
    end
  end
end
return found
""")
