-- POSTs of SIZE bytes, the target header taken from a list in turn; prints one JSON object at the end.
-- wrk ... -s post.lua URL -- SIZE TARGET[,TARGET...] [unique]     (TARGET "-" sends no header)
-- With "unique" each request has an X-Amzn-SageMaker-Inference-Id of its own, so that no two heads are alike.
-- wrk counts answers from 400 on as errors by itself; the harness refuses a round that has any.
local requests, at = {}, 0
local sent, unique = 0, false
local MARK = "@@@@@@@@@@@@@@@@@@@@"

function init(args)
  local body = string.rep("x", tonumber(args[1]))
  unique = args[3] == "unique"
  math.randomseed(os.time())
  sent = math.random(1e9) * 1e6 -- another turn must not send the same ids again
  for target in string.gmatch(args[2], "[^,]+") do
    local headers = { ["Content-Type"] = "application/octet-stream" }
    if target ~= "-" then headers["X-Amzn-SageMaker-Target-Container-Hostname"] = target end
    if unique then headers["X-Amzn-SageMaker-Inference-Id"] = MARK end
    local whole = wrk.format("POST", nil, headers, body)
    local first, last = string.find(whole, MARK, 1, true)
    requests[#requests + 1] = unique and { string.sub(whole, 1, first - 1), string.sub(whole, last + 1) } or whole
  end
end

function request()
  at = at % #requests + 1
  if not unique then return requests[at] end
  sent = sent + 1
  return requests[at][1] .. string.format("%020.0f", sent) .. requests[at][2]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"microseconds":%d,"errors":%d,"mean":%f,"p50":%d,"p99":%d}\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency.mean, latency:percentile(50), latency:percentile(99)))
end
