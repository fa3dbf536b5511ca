-- wrk -s load.lua URL -- FORM PICTURE FIELD: one picture again and again; FIELD is the form's field `model`, or empty.
local boundary = "----moda-benchmark-boundary"

local function part(disposition, value)
  return "--" .. boundary .. "\r\nContent-Disposition: form-data; " .. disposition .. "\r\n\r\n" .. value .. "\r\n"
end

function init(arguments)
  local file = assert(io.open(arguments[2], "rb"))
  local picture = file:read("*a")
  file:close()
  local type, body = "image/png", picture
  if arguments[1] == "multipart" then
    type = "multipart/form-data; boundary=" .. boundary
    body = part('name="image"; filename="picture.png"\r\nContent-Type: image/png', picture)
    if arguments[3] and arguments[3] ~= "" then
      body = part('name="model"', arguments[3]) .. body
    end
    body = body .. "--" .. boundary .. "--\r\n"
  end
  request_text = wrk.format("POST", nil, { ["Content-Type"] = type, ["Host"] = wrk.headers["Host"] }, body)
end

function request()
  return request_text
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    'RESULT {"duration_us": %d, "requests": %d, "p50_us": %d, "p99_us": %d, '
      .. '"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}',
    summary.duration, summary.requests, latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
