-- POSTs of SIZE bytes, the target header taken from a list in turn; prints one JSON object at the end.
-- wrk ... -s post.lua URL -- SIZE TARGET[,TARGET...]     (TARGET "-" sends no header)
-- wrk counts answers from 400 on as errors by itself; the harness refuses a round that has any.
local requests, at = {}, 0

function init(args)
  local body = string.rep("x", tonumber(args[1]))
  for target in string.gmatch(args[2], "[^,]+") do
    local headers = { ["Content-Type"] = "application/octet-stream" }
    if target ~= "-" then headers["X-Amzn-SageMaker-Target-Container-Hostname"] = target end
    requests[#requests + 1] = wrk.format("POST", nil, headers, body)
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"microseconds":%d,"errors":%d,"mean":%f,"p50":%d,"p99":%d}\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency.mean, latency:percentile(50), latency:percentile(99)))
end
