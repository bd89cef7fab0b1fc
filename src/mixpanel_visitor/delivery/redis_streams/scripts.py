"""Scripts: Lua that Redis runs in one step."""

from __future__ import annotations

ADD = """
local added = {}
for index = 0, #KEYS / 2 - 1 do
  local stream, sizes = KEYS[2 * index + 1], KEYS[2 * index + 2]
  local new = redis.call('EXISTS', stream) == 0
  if new then redis.call('XGROUP', 'CREATE', stream, ARGV[1], '0', 'MKSTREAM') end
  local records, bodies, writer = unpack(ARGV, 3 * index + 3, 3 * index + 5)
  local fields = {'t', ARGV[2], 'n', records, 'z', bodies}
  if writer ~= '' then fields[7], fields[8] = 'w', writer end
  local id = redis.call('XADD', stream, '*', unpack(fields))
  redis.call('HINCRBY', sizes, 'records', records)
  redis.call('HINCRBY', sizes, 'bytes', #bodies)
  added[#added + 1] = {id, new and 1 or 0}
end
return added
"""
EDGE = """
local entry = redis.call(ARGV[1], KEYS[1], ARGV[2], ARGV[3], 'COUNT', 1)[1]
if not entry then return {} end
local time = ''
for at = 1, #entry[2], 2 do
  if entry[2][at] == 't' then time = entry[2][at + 1] end
end
return {entry[1], time}
"""
SETTLE = """
local records, bytes = 0, 0
for at = 2, #ARGV, 3 do
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[at])
  redis.call('HDEL', KEYS[3], ARGV[at])
  if redis.call('XDEL', KEYS[1], ARGV[at]) == 1 then
    records = records + ARGV[at + 1]
    bytes = bytes + ARGV[at + 2]
  end
end
local entries = redis.call('XLEN', KEYS[1])
if entries == 0 then return redis.call('DEL', KEYS[2]) end
-- Entries that other programs have added were not counted.
for field, change in pairs({records = records, bytes = bytes}) do
  local rest = tonumber(redis.call('HGET', KEYS[2], field) or 0) - change
  redis.call('HSET', KEYS[2], field, string.format('%d', math.max(rest, field == 'records' and entries or 0)))
end
"""
LEASE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return holder and 1 or 2
"""
ALLOW = """
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now_ms - ARGV[5])
if not redis.call('ZSCORE', KEYS[2], ARGV[3]) and redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[4]) then
  return -1
end
redis.call('ZADD', KEYS[2], now_ms, ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
if redis.call('HGET', KEYS[1], 'second') ~= now[1] then
  redis.call('HSET', KEYS[1], 'second', now[1], 'used', 0)
end
local free = ARGV[2] - redis.call('HGET', KEYS[1], 'used')
local granted = math.max(0, math.min(tonumber(ARGV[1]), free))
redis.call('HINCRBY', KEYS[1], 'used', granted)
redis.call('PEXPIRE', KEYS[1], 2000)
return granted
"""
WITHDRAW = """
for at = 3, #ARGV do redis.call('HSET', KEYS[1], ARGV[at], ARGV[2]) end
return redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
"""
RELEASE_LEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
