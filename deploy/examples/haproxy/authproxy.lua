-- The action lua.authproxy for HAProxy 2.6 and later: it asks authproxy about a
-- request, and either tells the application who is there or answers as authproxy
-- does. See haproxy.cfg.

-- What the application learns. Each is in every answer that allows, empty if
-- there is nothing to say.
local identity = { "x-user-id", "x-user-email", "x-user-name", "x-user-groups", "x-user-roles", "authorization" }

-- What belongs to one connection, or to a body that is not sent along.
local not_sent = {
	"connection", "content-length", "expect", "keep-alive", "proxy-authorization", "proxy-connection",
	"te", "trailer", "transfer-encoding",
}

-- What HAProxy writes itself into an answer.
local not_answered = { "connection", "content-length", "keep-alive", "transfer-encoding" }

local timeout = 3000 -- milliseconds, below tune.lua.session-timeout

-- first returns the first of a header's values: HAProxy counts from 0.
local function first(values)
	return values and (values[0] or values[1])
end

-- question returns the headers that authproxy is asked with: the client's, and
-- what the request is.
local function question(txn)
	local headers = txn.http:req_get_headers()
	for _, name in ipairs(not_sent) do
		headers[name] = nil
	end
	headers["x-forwarded-method"] = { txn.sf:method() }
	headers["x-forwarded-proto"] = { "https" }
	headers["x-forwarded-host"] = { txn.sf:req_hdr("host") }
	headers["x-forwarded-uri"] = { txn.sf:pathq() }
	return headers
end

-- allow tells the application who is there.
local function allow(txn, headers)
	for _, name in ipairs(identity) do
		txn.http:req_del_header(name)
		local value = first(headers[name])
		if value and value ~= "" then
			txn.http:req_set_header(name, value)
		end
	end
	local cookie = first(headers["set-cookie"])
	if cookie then
		txn:set_var("txn.authproxy_cookie", cookie)
	end
	txn:set_var("txn.authproxy", "allowed")
end

-- refuse answers as authproxy does: with a redirect, a page or an error.
local function refuse(txn, answer)
	local reply = txn:reply({ status = answer.status, body = answer.body })
	for _, name in ipairs(not_answered) do
		answer.headers[name] = nil
	end
	for name, values in pairs(answer.headers) do
		for _, value in pairs(values) do
			reply:add_header(name, value)
		end
	end
	txn:done(reply)
end

core.register_action("authproxy", { "http-req" }, function(txn, url)
	local answer = core.httpclient():get({ url = url, headers = question(txn), timeout = timeout })
	if answer.status == 200 then
		allow(txn, answer.headers)
	elseif answer.status == 302 or answer.status == 401 or answer.status == 403 then
		refuse(txn, answer)
	end
	-- Anything else is no answer of authproxy's, and haproxy.cfg refuses.
end, 1)
