"""Every change of a job in Redis, as Lua: one script is one indivisible step, timed by Redis's own clock.

A *lease* is the place of a job in ``moda:running``, scored with the moment it ends. Its *token* is the
number of times the job was taken: whoever holds an older one is refused. Time in which Redis itself was
away counts against no lease. The key of a job follows from its id inside the scripts, which one Redis
allows and a Redis cluster would not.
"""

from __future__ import annotations

from typing import Any, Final

from redis import Redis

from worker.contract import Keys

__all__ = ["Scripts"]

EVENTS_KEPT: Final = 2000
EVENTS_KEPT_AFTER_END_S: Final = 30 * 24 * 3600

_PRELUDE: Final = f"""
local function key(id) return '{Keys.JOB}' .. id end
local function get(id, field) return redis.call('HGET', key(id), field) end

local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function log(id, event, data)
  return redis.call('XADD', '{Keys.EVENTS}' .. id, 'MAXLEN', {EVENTS_KEPT}, '*', 'event', event, 'data', data)
end

local function enter(id, state, error)
  redis.call('HSET', key(id), 'state', state)
  log(id, 'state', cjson.encode({{state = state, error = error}}))
end

local function close(id, state, error, problem)
  redis.call('HSET', key(id), 'finished_ms', now())
  if error then redis.call('HSET', key(id), 'error', error, 'problem', problem) end
  redis.call('ZREM', '{Keys.QUEUED}', id)
  redis.call('ZREM', '{Keys.RUNNING}', id)
  enter(id, state, error)
  redis.call('EXPIRE', '{Keys.EVENTS}' .. id, {EVENTS_KEPT_AFTER_END_S})
end

local function holds(id, token)
  return get(id, 'state') == 'running' and get(id, 'token') == token
end

local function ends(id) return tonumber(redis.call('ZSCORE', '{Keys.RUNNING}', id) or '0') end

-- Reapers sweep far more often than every half lease. Where none did, Redis was not to be reached, by
-- them or by those that renew their leases: each lease then begins anew, once.
local function pardon(lease_ms)
  local at, swept = now(), redis.call('GET', '{Keys.SWEPT}')
  redis.call('SET', '{Keys.SWEPT}', at)
  if not swept or at - swept <= lease_ms / 2 then return end
  for _, id in ipairs(redis.call('ZRANGE', '{Keys.RUNNING}', 0, -1)) do
    redis.call('ZADD', '{Keys.RUNNING}', at + lease_ms, id)
  end
end

-- A running job whose lease has ended: true when that settles it, false when it may be taken again.
local function settled(id, most)
  if get(id, 'cancel') then
    close(id, 'cancelled')
    return true
  end
  local lost = tonumber(get(id, 'lost')) + 1
  if lost < most then return false end
  redis.call('HSET', key(id), 'lost', lost)
  local remedy = 'it may have been killed for memory: see the log of the worker'
  close(id, 'failed', 'its worker vanished ' .. lost .. ' times without a word, last ' .. get(id, 'worker') ..
    '; ' .. remedy, cjson.encode({{code = 'unavailable', remedy = remedy}}))
  return true
end
"""

# id kind digest request replaced -> the id of the job that does this work
_SUBMIT: Final = f"""
local id, kind, digest, request, replaced = unpack(ARGV)
local spec = '{Keys.SPEC}' .. digest
local known = redis.call('GET', spec)
if known then
  local state = get(known, 'state')
  if state == 'queued' or (state == 'running' and not get(known, 'cancel'))
    or (state == 'succeeded' and known ~= replaced) then return known end
end
local at = now()
redis.call('HSET', key(id), 'id', id, 'kind', kind, 'digest', digest, 'request', request,
  'created_ms', at, 'token', 0, 'lost', 0)
redis.call('ZADD', '{Keys.ALL}', at, id)
redis.call('ZADD', '{Keys.QUEUED}', at, id)
redis.call('SET', spec, id)
enter(id, 'queued')
return id
"""

# id worker attempt lease_ms most -> {state, token}; "taken" when the job is now the caller's
_TAKE: Final = f"""
local id, worker, attempt, lease_ms, most = unpack(ARGV)
local state = get(id, 'state')
if not state then return {{'missing', 0}} end
if state == 'running' then
  if get(id, 'attempt') == attempt then return {{'taken', tonumber(get(id, 'token'))}} end
  pardon(tonumber(lease_ms))
  if ends(id) > now() then return {{state, 0}} end
  if settled(id, tonumber(most)) then return {{get(id, 'state'), 0}} end
  redis.call('HINCRBY', key(id), 'lost', 1)
elseif state ~= 'queued' then
  return {{state, 0}}
end
local token = redis.call('HINCRBY', key(id), 'token', 1)
redis.call('HSET', key(id), 'worker', worker, 'attempt', attempt)
redis.call('HSETNX', key(id), 'started_ms', now())
redis.call('ZREM', '{Keys.QUEUED}', id)
redis.call('ZADD', '{Keys.RUNNING}', now() + lease_ms, id)
enter(id, 'running')
return {{'taken', token}}
"""

# id token lease_ms -> "held", "cancel" (held, and asked to stop) or "lost"
_RENEW: Final = f"""
local id, token, lease_ms = unpack(ARGV)
if not holds(id, token) then return 'lost' end
redis.call('ZADD', '{Keys.RUNNING}', now() + lease_ms, id)
return get(id, 'cancel') and 'cancel' or 'held'
"""

# id token -> as RENEW, which it does not do
_LOOK: Final = """
local id, token = unpack(ARGV)
if not holds(id, token) then return 'lost' end
return get(id, 'cancel') and 'cancel' or 'held'
"""

# id token event data progress -> 1, or 0 when refused
_EVENT: Final = """
local id, token, event, data, progress = unpack(ARGV)
if not holds(id, token) then return 0 end
log(id, event, data)
redis.call('HSET', key(id), 'progress', progress)
return 1
"""

# id token state result error problem -> 1, or 0 when refused; done twice by one holder, it is done once
_FINISH: Final = """
local id, token, state, result, error, problem = unpack(ARGV)
if get(id, 'state') == state and get(id, 'token') == token then return 1 end
if not holds(id, token) then return 0 end
if result ~= '' then redis.call('HSET', key(id), 'result', result) end
close(id, state, error ~= '' and error or nil, problem)
return 1
"""

# id token -> 1, or 0 when refused: the job goes back to the queue, and no lease counts as lost
_RELEASE: Final = f"""
local id, token = unpack(ARGV)
if not holds(id, token) then return 0 end
if get(id, 'cancel') then
  close(id, 'cancelled')
  return 1
end
redis.call('ZREM', '{Keys.RUNNING}', id)
redis.call('ZADD', '{Keys.QUEUED}', now(), id)
enter(id, 'queued')
return 1
"""

# id -> 1, or 0 when there is no such job
_CANCEL: Final = """
local id = ARGV[1]
local state = get(id, 'state')
if not state then return 0 end
if state == 'queued' or (state == 'running' and ends(id) <= now()) then
  close(id, 'cancelled')
elseif state == 'running' then
  redis.call('HSET', key(id), 'cancel', 1)
end
return 1
"""

# name presence_ms
_PRESENT: Final = f"""
local at = now()
redis.call('ZADD', '{Keys.WORKERS}', at + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', '{Keys.WORKERS}', '-inf', at)
"""

# ring_ms most lease_ms -> ids to ring for. Not while as many rings are unheard as jobs are waiting: with no
# worker to hear them they would pile up without end.
_REAP: Final = f"""
local ring_ms, most = tonumber(ARGV[1]), tonumber(ARGV[2])
pardon(tonumber(ARGV[3]))
local at, waiting, rings = now(), redis.call('ZCARD', '{Keys.QUEUED}'), {{}}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', '{Keys.RUNNING}', '-inf', at)) do
  if not settled(id, most) then
    waiting = waiting + 1
    rings[#rings + 1] = id
  end
end
if redis.call('LLEN', '{Keys.DOORBELL}') >= waiting then return {{}} end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', '{Keys.QUEUED}', '-inf', at - ring_ms)) do
  redis.call('ZADD', '{Keys.QUEUED}', at, id)
  rings[#rings + 1] = id
end
return rings
"""


class Scripts:
    """The scripts, callable on one client; each takes ``args=[...]``."""

    def __init__(self, client: Redis) -> None:
        def script(body: str) -> Any:
            return client.register_script(_PRELUDE + body)

        self.submit, self.take, self.renew, self.look = script(_SUBMIT), script(_TAKE), script(_RENEW), script(_LOOK)
        self.event, self.finish, self.release = script(_EVENT), script(_FINISH), script(_RELEASE)
        self.cancel, self.present, self.reap = script(_CANCEL), script(_PRESENT), script(_REAP)
