// A stand-in for Schibsted account's JS SDK v2 (2.6.0), which can be had no more: what a page, its visitors and our
// script see of it, written anew from what schibsted/sdk-js is known to do:
//
// - one global, SPiD; `asyncSPiD` is called once the script has run; after `init` a page calls `hasSession`
// - the session comes as a script from another host, which calls `SPiD.Talk.response`
// - `SPiD.visitor` is fired with {uid, user_id}, a moment after the session is kept; also for a kept session
// - a session is kept under `spid_js_<client>`: in localStorage as JSON with `_expires`, or with
//   `storage: 'cookie'` as escape(JSON); that of somebody who is not logged in only with `cache.hasSession`
// - a cookie of the name that is there twice is not read; `domain=.` (no baseDomain) is written, and refused
(function () {
  var options = {};
  var session = {};
  var initiated = false;
  var sessionInitSent = false;
  var userStatus = 'unknown';
  var subscribers = {};
  var waiting = null;
  var callbacks = {};
  var domain = document.domain;

  function later(call) { setTimeout(call, 0); }

  function fire(name, value) {
    (subscribers[name] || []).forEach(function (subscriber) { if (subscriber) { subscriber(value); } });
  }

  // --- storage -------------------------------------------------------------------------------

  function key() { return 'spid_js_' + options.client_id; }

  function setCookie(name, value, seconds) {
    document.cookie = name + '=' + value + '; expires=' + new Date(Date.now() + seconds * 1000).toUTCString() +
      '; path=/; domain=.' + domain;
  }

  var storages = {
    localstorage: {
      set: function (value, seconds) {
        if (seconds) { value._expires = new Date(Date.now() + seconds * 1000); }
        localStorage.setItem(key(), JSON.stringify(value));
      },
      get: function () {
        var kept = JSON.parse(localStorage.getItem(key()));
        if (kept && kept._expires && new Date(kept._expires) < new Date()) {
          localStorage.removeItem(key());
          return null;
        }
        return kept;
      },
      clear: function () { localStorage.removeItem(key()); }
    },
    cookie: {
      set: function (value, seconds) {
        domain = value.baseDomain;
        setCookie(key(), escape(JSON.stringify(value)), seconds);
      },
      get: function () {
        var parts = ('; ' + document.cookie).split('; ' + key() + '=');
        var kept = parts.length === 2 ? JSON.parse(unescape(parts[1].split(';')[0])) : null;
        if (kept) { domain = kept.baseDomain; }
        return kept;
      },
      clear: function () { setCookie(key(), '', 0); }
    },
    standard: {set: function () {}, get: function () { return null; }, clear: function () {}}
  };

  function storage() { return storages[options.storage] || storages.localstorage; }

  function keptAlways() { return options.cache && options.cache.hasSession; }

  // --- requests ------------------------------------------------------------------------------

  function url(host, path) { return (options.https ? 'https' : 'http') + '://' + host + options.server + path; }

  function request(address, callback) {
    var id = 'f' + Math.random().toString(16).slice(2);
    var script = document.createElement('script');
    callbacks[id] = function (answer) {
      delete callbacks[id];
      script.parentNode.removeChild(script);
      callback(answer.error || null, answer.response || answer);
    };
    script.src = address + '?autologin=1&v=2.6.0&callback=' + id + '&redirect_uri=' +
      encodeURIComponent(location.href);
    script.onerror = function () {
      callbacks[id]({error: {type: 'communication', code: 503}, response: {}});
    };
    document.head.appendChild(script);
  }

  // --- the session ---------------------------------------------------------------------------

  function tell(before, current) {
    if (current.visitor) { fire('SPiD.visitor', current.visitor); }
    if (current.userId && before.userId !== current.userId) { fire('SPiD.login', current); }
    if (before.userId && !current.userId) { fire('SPiD.logout', current); }
    if (before.userId && current.userId && before.userId !== current.userId) { fire('SPiD.userChange', current); }
    fire(current.userId || before.userId ? 'SPiD.sessionChange' : 'SPiD.notLoggedin', current);
    if (current.userId && !sessionInitSent) {
      sessionInitSent = true;
      fire('SPiD.sessionInit', current);
    }
    if (current.userStatus !== userStatus) {
      userStatus = current.userStatus;
      fire('SPiD.statusChange', current);
    }
  }

  function respond(error, data) {
    var before = session;
    var called = waiting;
    session = data;
    waiting = null;
    later(function () { tell(before, data); });
    called.forEach(function (callback) { later(function () { callback(error, data); }); });
  }

  function take(error, data) {
    if ((!error && data.result) || keptAlways()) {
      storage().set(data, (keptAlways() && options.cache.hasSession.ttlSeconds) || data.expiresIn);
    }
    respond(error, data);
  }

  window.SPiD = {
    version: function () { return '2.6.0'; },
    initiated: function () { return initiated; },
    options: function () { return options; },
    event: {
      subscribe: function (name, callback) { (subscribers[name] = subscribers[name] || []).push(callback); },
      unsubscribe: function (name, callback) {
        subscribers[name] = (subscribers[name] || []).map(function (each) {
          return each === callback ? null : each;
        });
      },
      fire: fire
    },
    sessionCache: {
      get: function () { return storage().get(); },
      set: function (value, seconds) { storage().set(value, seconds); },
      clear: function () { storage().clear(); }
    },
    Talk: {response: function (id, answer) { if (callbacks[id]) { callbacks[id](answer); } }},
    init: function (given, callback) {
      options = Object.assign({cache: false, useSessionCluster: true, https: true, storage: 'localstorage'}, given);
      ['server', 'client_id'].forEach(function (name) {
        if (!options[name]) { throw new TypeError('[SPiD] ' + name + ' parameter is required'); }
      });
      initiated = true;
      if (callback) { later(callback); }
    },
    hasSession: function (callback) {
      callback = callback || function () {};
      if (waiting) {
        waiting.push(callback);
        return;
      }
      waiting = [callback];
      var kept = storage().get();
      if (kept) {
        respond(null, kept);
        return;
      }
      request(
        options.useSessionCluster ? url('session.', '/rpc/hasSession.js') : url('', '/ajax/hasSession.js'),
        function (error, data) {
          if (error && error.type === 'LoginException') {
            fire('SPiD.loginException');
            request(url('', '/ajax/hasSession.js'), take);
            return;
          }
          if (error) { fire('SPiD.error', error); }
          take(error, data);
        }
      );
    },
    logout: function (callback) {
      request(url('', '/ajax/logout.js'), function (error, data) {
        if (data.result) {
          storage().clear();
          if (!error) { fire('SPiD.logout', data); }
        }
        if (callback) { later(function () { callback(error, data); }); }
      });
    }
  };

  later(function () {
    if (typeof window.asyncSPiD === 'function' && !window.asyncSPiD.hasRun) {
      window.asyncSPiD();
      window.asyncSPiD.hasRun = true;
    }
  });
})();
